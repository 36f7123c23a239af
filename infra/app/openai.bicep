// One Azure OpenAI account in one region, without keys, and its model deployments.
param name string
param location string
param tags object

@description('Each {name, model, version, sku, capacity}; an empty version means the default one of the model.')
param deployments array

@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    // Regional endpoints refuse tokens of an identity: the account needs a name of its own.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: { defaultAction: 'Allow' }
  }
}

// One at a time: the account refuses a second operation while one runs.
@batchSize(1)
resource modelDeployments 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = [for item in deployments: {
  parent: account
  name: item.name
  tags: tags
  sku: {
    name: (item.?sku ?? 'GlobalStandard')
    capacity: (item.?capacity ?? 30)
  }
  properties: {
    model: {
      format: 'OpenAI'
      name: item.model
      version: (empty(item.?version) ? null : item.version)
    }
    versionUpgradeOption: 'OnceCurrentVersionExpired'
  }
}]

output name string = account.name
