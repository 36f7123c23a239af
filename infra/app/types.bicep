// Types that several files use.

@export()
type tagSet = { *: string }

@export()
@description('App settings: names and texts.')
type appSettings = { *: string }

@export()
@description('AIServices (Microsoft Foundry) also takes models of other publishers.')
type accountKind = 'OpenAI' | 'AIServices'

@export()
@sealed()
@description('One model deployment. The format of a model that is not from OpenAI is the name of its publisher.')
type modelDeployment = {
  @minLength(1)
  @maxLength(64)
  name: string
  @minLength(1)
  model: string
  format: string?
  @description('Empty: the default version of the model.')
  version: string?
  sku: string?
  @minValue(1)
  @description('In thousands of tokens per minute.')
  capacity: int?
  @description('Name of a content filter of the account.')
  raiPolicyName: string?
  @description('Of 1,000,000 tokens, in US dollars: a text such as 0.58. Empty: that of the list in manage.py.')
  promptPrice: string?
  completionPrice: string?
}
